// Command by_go uses pgx and lib/pq: statements, batches, COPY, errors, notifications, cancels, large objects.
package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
	"github.com/lib/pq"
)

const (
	patience    = 30 * time.Second
	largeObject = 4545 // its oid, chosen, so that it is the same in every run
	// It can be cancelled once it has said that it sleeps.
	asleep = "do $$ begin raise notice 'asleep'; perform pg_sleep(60); end $$"
)

// say reports a result: it must be the same on every way to the server.
func say(what string, value ...interface{}) {
	fmt.Printf("%s: %v\n", what, value)
}

func must(err error) {
	if err != nil {
		log.Panic(err)
	}
}

func main() {
	ctx, stop := context.WithTimeout(context.Background(), 3*patience)
	defer stop()
	for _, options := range []string{
		"", "statement_cache_mode=describe", "statement_cache_capacity=0", "prefer_simple_protocol=true",
	} {
		say("pgx with", options)
		byPgx(ctx, options)
	}
	pgxApart(ctx)
	pooled(ctx)
	for _, options := range []string{"", "binary_parameters=yes"} {
		say("lib/pq with", options)
		byPq(ctx, options)
	}
	pqNotifications()
}

// pgx

func connect(ctx context.Context, options string) *pgx.Conn {
	config, err := pgx.ParseConfig(options)
	must(err)
	config.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) {
		say("notice", notice.Severity, notice.Message, notice.Detail, notice.Hint)
	}
	connection, err := pgx.ConnectConfig(ctx, config)
	must(err)
	return connection
}

func byPgx(ctx context.Context, options string) {
	simple := options == "prefer_simple_protocol=true"
	if simple {
		options = ""
	}
	config, err := pgx.ParseConfig(options)
	must(err)
	config.PreferSimpleProtocol = simple
	connection, err := pgx.ConnectConfig(ctx, config)
	must(err)
	defer connection.Close(ctx)
	for id := 1; id <= 3; id++ {
		rows, err := connection.Query(ctx, "select id, name, balance::text, born from drv_people where id <= $1 order by id", id)
		must(err)
		for rows.Next() {
			values, err := rows.Values()
			must(err)
			say("person", values...)
		}
		must(rows.Err())
	}
	_, err = connection.Exec(ctx, "truncate drv_sink, drv_orders restart identity")
	must(err)
	tag, err := connection.Exec(ctx, "insert into drv_sink select n from generate_series(1, $1::int) n", 20)
	must(err)
	say("tag", tag.String())
	var noisy int
	must(connection.QueryRow(ctx, "select drv_noisy($1)", 3).Scan(&noisy))

	// One text a batch: several are prepared in the order of a map, which is another one in every run.
	batch := &pgx.Batch{}
	for n := 0; n < 30; n++ {
		batch.Queue("insert into drv_sink (a, b) values ($1, $2) returning a", n, "batch")
	}
	results := connection.SendBatch(ctx, batch)
	for n := 0; n < 30; n++ {
		var found int
		must(results.QueryRow().Scan(&found))
		say("batch", found)
	}
	must(results.Close())
	failing := &pgx.Batch{}
	for _, divisor := range []int{1, 0, 1} {
		failing.Queue("insert into drv_sink values (77 / $1::int)", divisor)
	}
	say("failed batch", code(connection.SendBatch(ctx, failing).Close()))

	transaction, err := connection.Begin(ctx)
	must(err)
	inner, err := transaction.Begin(ctx)
	must(err)
	_, err = inner.Exec(ctx, "insert into drv_orders (person) values (-1)")
	say("refused", code(err))
	must(inner.Rollback(ctx))
	must(transaction.Commit(ctx))
	var left int
	must(connection.QueryRow(ctx, "select count(*) from drv_sink where a = 77").Scan(&left))
	say("left", left)
	for _, text := range []string{"select drv_fails()", "select drv_fails_inside()", "selec", "select 1/0"} {
		_, err := connection.Exec(ctx, text)
		var said *pgconn.PgError
		if !errors.As(err, &said) {
			log.Panic(err)
		}
		say("error", fmt.Sprintf("%+v", *said))
	}
}

func code(err error) string {
	var said *pgconn.PgError
	if errors.As(err, &said) {
		return said.Code
	}
	var other *pq.Error
	if errors.As(err, &other) {
		return string(other.Code)
	}
	return fmt.Sprint(err)
}

// pgxApart does what depends on no option: COPY, portals, large objects, notifications, cancels.
func pgxApart(ctx context.Context) {
	connection := connect(ctx, "")
	defer connection.Close(ctx)
	for _, form := range []string{"text", "csv", "binary"} {
		var out bytes.Buffer
		wire := connection.PgConn()
		_, err := wire.CopyTo(ctx, &out, "copy (select id, name from drv_people order by id) to stdout (format "+form+")")
		must(err)
		_, err = connection.Exec(ctx, "truncate drv_sink")
		must(err)
		size := out.Len()
		tag, err := wire.CopyFrom(ctx, io.MultiReader(&out), "copy drv_sink from stdin (format "+form+")")
		must(err)
		say("copied", form, size, tag.String())
	}
	var rows [][]interface{}
	for n := 0; n < 200; n++ {
		rows = append(rows, []interface{}{n, "copied"})
	}
	count, err := connection.CopyFrom(ctx, pgx.Identifier{"drv_sink"}, []string{"a", "b"}, pgx.CopyFromRows(rows))
	must(err)
	say("copied rows", count)
	_, err = connection.PgConn().CopyFrom(ctx, bytes.NewBufferString("x\ty\n"), "copy drv_sink from stdin")
	say("refused", code(err))

	several := connection.PgConn().Exec(ctx, "select 1; select 2, 'x'; update drv_sink set b = 'y' where a = 1; select 1/0; select 3")
	for several.NextResult() {
		result := several.ResultReader().Read()
		say("several", result.Rows, result.CommandTag, code(result.Err))
	}
	say("several end", code(several.Close()))

	transaction, err := connection.Begin(ctx)
	must(err)
	objects := transaction.LargeObjects()
	_, err = objects.Create(ctx, largeObject)
	must(err)
	object, err := objects.Open(ctx, largeObject, pgx.LargeObjectModeRead|pgx.LargeObjectModeWrite)
	must(err)
	_, err = object.Write(bytes.Repeat([]byte("large "), 10_000))
	must(err)
	_, err = object.Seek(0, io.SeekStart)
	must(err)
	read, err := io.ReadAll(object)
	must(err)
	say("large object", len(read))
	must(objects.Unlink(ctx, largeObject))
	must(transaction.Commit(ctx))

	speaker := connect(ctx, "")
	_, err = connection.Exec(ctx, "listen drv_news")
	must(err)
	_, err = speaker.Exec(ctx, "select pg_notify('drv_news', $1)", "payload")
	must(err)
	heard, err := connection.WaitForNotification(ctx)
	must(err)
	say("heard", heard.Channel, heard.Payload, heard.PID == speaker.PgConn().PID())
	must(speaker.Close(ctx))

	config, err := pgx.ParseConfig("")
	must(err)
	config.OnNotice = func(wire *pgconn.PgConn, _ *pgconn.Notice) {
		go func() { must(wire.CancelRequest(ctx)) }()
	}
	sleeper, err := pgx.ConnectConfig(ctx, config)
	must(err)
	_, err = sleeper.Exec(ctx, asleep)
	say("cancelled", code(err))
	must(sleeper.Close(ctx))
}

func pooled(ctx context.Context) {
	pool, err := pgxpool.Connect(ctx, "pool_max_conns=1")
	must(err)
	defer pool.Close()
	for n := 0; n < 20; n++ {
		var sum int
		must(pool.QueryRow(ctx, "select coalesce(sum(id), 0) from drv_people where id <= $1", n).Scan(&sum))
		say("pooled", sum)
	}
}

// lib/pq

func byPq(ctx context.Context, options string) {
	database, err := sql.Open("postgres", options)
	must(err)
	defer database.Close()
	database.SetMaxOpenConns(1)
	statement, err := database.PrepareContext(ctx, "select id, name, balance::text from drv_people where id <= $1 order by id")
	must(err)
	for limit := 1; limit <= 3; limit++ {
		rows, err := statement.QueryContext(ctx, limit)
		must(err)
		for rows.Next() {
			var id int
			var name, balance string
			must(rows.Scan(&id, &name, &balance))
			say("person", id, name, balance)
		}
		must(rows.Err())
		must(rows.Close())
	}
	must(statement.Close())
	rows, err := database.QueryContext(ctx, "select 1; select 2 union all select 3")
	must(err)
	for more := true; more; more = rows.NextResultSet() {
		for rows.Next() {
			var number int
			must(rows.Scan(&number))
			say("several", number)
		}
	}
	must(rows.Close())

	transaction, err := database.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
	must(err)
	copying, err := transaction.Prepare(pq.CopyIn("drv_sink", "a", "b"))
	must(err)
	for n := 0; n < 500; n++ {
		_, err = copying.Exec(n, fmt.Sprintf("row %d", n))
		must(err)
	}
	_, err = copying.Exec()
	must(err)
	must(copying.Close())
	var count int
	must(transaction.QueryRow("select count(*) from drv_sink where b like 'row %'").Scan(&count))
	say("copied", count)
	must(transaction.Rollback())

	for _, text := range []string{
		"select drv_fails()", "select drv_fails_inside()", "selec", "insert into drv_orders (person) values (-1)",
	} {
		_, err := database.ExecContext(ctx, text)
		var said *pq.Error
		if !errors.As(err, &said) {
			log.Panic(err)
		}
		say("error", fmt.Sprintf("%+v", *said))
	}
	say("goes on", database.QueryRow("select 42").Scan(&count), count)
}

func pqNotifications() {
	listener := pq.NewListener("", time.Second, patience, nil)
	must(listener.Listen("drv_news"))
	database, err := sql.Open("postgres", "")
	must(err)
	_, err = database.Exec("select pg_notify('drv_news', $1)", "payload")
	must(err)
	select {
	case heard := <-listener.Notify:
		say("heard", heard.Channel, heard.Extra)
	case <-time.After(patience):
		log.Panic("nothing was heard")
	}
	must(database.Close())
	must(listener.Close())
	os.Stdout.Sync()
}
