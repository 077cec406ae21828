# pgbench with several clients, and with a new connection for each transaction.
set -eu
pgbench=$1
processed() { grep -E 'query mode|actually processed|failed transactions'; }
"$pgbench" --initialize --quiet --no-vacuum 2>/dev/null
"$pgbench" --no-vacuum --client=4 --jobs=2 --transactions=20 --protocol=prepared | processed
"$pgbench" --no-vacuum --client=3 --transactions=5 --connect --select-only | processed
"$pgbench" --initialize --init-steps=d --quiet 2>/dev/null
