# pg_dump in each format that can be one file, its output printed.
set -eu
pg_dump=$1
"$pg_dump" --restrict-key=drv -b
"$pg_dump" --restrict-key=drv --inserts --table='drv_*'
"$pg_dump" --format=custom --compress=0 | tr -d '\0-\10\16-\37' | grep -a -c name
