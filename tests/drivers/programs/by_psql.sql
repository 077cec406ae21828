-- psql's meta-commands: what each asks the server is psql's own business, and must be answered as if nobody stood between.
\set ON_ERROR_STOP off
\set SHOW_CONTEXT always
\set VERBOSITY verbose
\pset pager off
truncate drv_sink, drv_orders restart identity;

\echo catalogue
\d
\d drv_people
\d+ drv_orders
\d drv_view
\dt+ drv_*
\df drv_*
\df+ drv_noisy
\sf drv_noisy
\sv drv_view
\dT+ drv_*
\dD
\dn+
\du
\l postgres
\di
\dv
\ds
\dx
\dp drv_people
\dconfig work_mem
\dO pg_catalog.ucs_basic
\dd drv_people
\dC
\do+ ||
\o /dev/null
\conninfo
\o

\echo variables
select id, name from drv_people where id = 7 \gset person_
\echo :person_id :person_name
select :person_id + 1 as "next", :'person_name' as "quoted" \gx
\echo :ROW_COUNT :SQLSTATE :ERROR
select format('select %s as n', n) from generate_series(1, 3) n \gexec
select * from drv_people where false \gdesc
select 1 as a, 'x' as b, 2.5 as c \crosstabview a b c
select count(*) from drv_people \watch c=3 i=0.05
\if :{?person_id}
select 'yes';
\endif

\echo several statements
select 1\; select 2, 'x'\; select 3 where false;
begin\; insert into drv_sink values (1)\; commit;
insert into drv_sink values (2) returning *\; table drv_sink;
select 1\; select 1/0\; select 2;

\echo the extended protocol
select $1::int + $2, $3 \bind 1 2 three \g
select id, name from drv_people where id = $1 \parse drv_by_id
\bind_named drv_by_id 5 \g
\bind_named drv_by_id 6 \g
\close_prepared drv_by_id
\bind_named drv_by_id 7 \g
\startpipeline
select $1::int \bind 1 \sendpipeline
select $1::int / 0 \bind 2 \sendpipeline
select $1::int \bind 3 \sendpipeline
\syncpipeline
insert into drv_sink values ($1) returning a \bind 4 \sendpipeline
\flushrequest
\getresults
\endpipeline

\echo copies
\copy (select id, name from drv_people where id <= 5 order by id) to pstdout
\copy (select id, name from drv_people order by id) to program 'wc -c' (format csv, header)
\copy drv_sink from program 'printf "10\tten\n11\televen\n"'
\copy drv_sink (a, b) from stdin csv
12,"tw
elve"
13,
\.
copy drv_sink from stdin;
14	fourteen
\.
copy (select a, b from drv_sink order by a) to stdout (format csv, force_quote *);
\copy drv_people to program 'wc -c' (format binary)
copy drv_sink from stdin;
no number	x
\.
table drv_sink;

\echo portions
\set FETCH_COUNT 7
select id from drv_people where id <= 30 order by id;
select 1 / (id - 20) from drv_people order by id;
\unset FETCH_COUNT

\echo errors
select drv_fails();
select drv_fails_inside();
\errverbose
select nothing from drv_people;
insert into drv_orders (person, amount) values (1, -5);
\set VERBOSITY default
\set ON_ERROR_ROLLBACK on
begin;
select 1/0;
select 'goes on';
commit;
\set ON_ERROR_ROLLBACK off
\set AUTOCOMMIT off
select 1;
rollback;
\set AUTOCOMMIT on

\echo asynchronous
listen drv_news;
select drv_noisy(9);
\set VERBOSITY terse
begin;
notify drv_news, 'payload';
commit;
unlisten *;

\echo large objects
select lo_unlink(4343) from pg_largeobject_metadata where oid = 4343;
select lo_from_bytea(4343, 'some words');
\lo_list
\lo_export 4343 /dev/null
\lo_unlink 4343

\echo plans and transactions
explain (costs off, analyze, timing off, summary off, buffers off) select count(*) from drv_people where id < 10;
explain (costs off, verbose, format yaml) select * from drv_view;
begin;
insert into drv_sink values (77);
prepare transaction 'drv psql';
commit prepared 'drv psql';
begin;
prepare transaction 'drv psql';
rollback prepared 'drv psql';
begin;
declare drv_cursor scroll cursor for select id from drv_people order by id;
fetch 3 from drv_cursor;
fetch backward 2 from drv_cursor;
move last in drv_cursor;
fetch prior from drv_cursor;
close drv_cursor;
end;
call drv_doubles(5);
prepare drv_prepared(int) as select name from drv_people where id = $1;
execute drv_prepared(3);
deallocate drv_prepared;
set datestyle to 'German'; show datestyle; reset all;
\encoding LATIN1
select name from drv_people where id = 1;
\encoding UTF8
\c - - - -
select current_user;
\no_such_command
\q
