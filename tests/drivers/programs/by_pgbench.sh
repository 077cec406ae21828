# pgbench in each of its modes, then a pipeline; its own figures depend on the machine, what was processed does not.
set -eu
pgbench=$1
processed() { grep -E 'query mode|actually processed|failed transactions'; }
"$pgbench" --initialize --quiet --no-vacuum 2>/dev/null
for mode in simple extended prepared; do
  "$pgbench" --no-vacuum --protocol=$mode --random-seed=7 --transactions=20 | processed
  "$pgbench" --no-vacuum --protocol=$mode --random-seed=7 --transactions=50 --select-only | processed
done
"$pgbench" --no-vacuum --protocol=prepared --random-seed=7 --transactions=5 --file=/dev/stdin <<'SCRIPT' | processed
\set id random(1, 1000)
\startpipeline
select name from drv_people where id = :id;
update pgbench_tellers set tbalance = tbalance + 1 where tid = 1 + mod(:id, 10);
select abalance from pgbench_accounts where aid between :id and :id + 20;
\endpipeline
begin;
\startpipeline
select id from drv_people where id < :id order by id limit 30;
commit;
\endpipeline
SCRIPT
"$pgbench" --initialize --init-steps=d --quiet 2>/dev/null
