// node-postgres: statements, prepared statements, cursors, streams, COPY, errors, notifications, a pool.
'use strict'

const assert = require('node:assert')
const { pipeline } = require('node:stream/promises')
const { Readable, Writable } = require('node:stream')
const { Client, Pool } = require('pg')
const Cursor = require('pg-cursor')
const QueryStream = require('pg-query-stream')
const { from: copyFrom, to: copyTo } = require('pg-copy-streams')

// Report a result: it must be the same on every way to the server.
const say = (what, value) => console.log(`${what}: ${JSON.stringify(value)}`)

const ERROR_FIELDS = ['severity', 'code', 'message', 'detail', 'hint', 'position', 'internalPosition', 'internalQuery',
  'where', 'schema', 'table', 'column', 'dataType', 'constraint', 'routine']

async function statements (client) {
  const people = await client.query('select * from drv_people where id = any($1) order by id', [[1, 2, 3]])
  say('people', people.rows)
  say('fields', people.fields.map(({ name, dataTypeID, columnID, format }) => [name, dataTypeID, columnID, format]))
  say('as arrays', (await client.query({ text: 'table drv_view', rowMode: 'array' })).rows)
  const named = { name: 'drv by id', text: 'select id, name from drv_people where id = $1' }
  for (const id of [5, 6, 5000]) say('named', (await client.query({ ...named, values: [id] })).rows)
  say('binary', (await client.query({ text: 'select $1::int, $2::text', values: [1, 'x'], binary: true })).rows)
  await client.query('truncate drv_sink, drv_orders restart identity')
  const written = await client.query("insert into drv_sink values ($1, $2), ($1, default) returning *", [1, null])
  say('written', [written.command, written.rowCount, written.rows])
  const several = await client.query("select 1 as a; insert into drv_sink values (2); select 2 as b, 'x' as c; select 3 where false")
  say('several', several.map(({ command, rowCount, rows }) => [command, rowCount, rows]))
  say('empty', (await client.query('')).rows)
  say('plan', (await client.query('explain (costs off) select * from drv_view')).rows)
  // The driver queues these and sends each when the one before is answered.
  const queued = await Promise.all([...Array(30).keys()].map(n => client.query('select $1::int * 2 as n', [n])))
  assert.deepStrictEqual(queued.map(({ rows }) => rows[0].n), [...Array(30).keys()].map(n => 2 * n))
  await client.query('begin')
  await client.query('insert into drv_sink values (99)')
  await client.query("prepare transaction 'drv node'")
  await client.query("commit prepared 'drv node'")
}

async function cursors (client) {
  const portions = async (size, text) => {
    const cursor = client.query(new Cursor(text, [10]))
    const found = []
    for (let rows; (rows = await cursor.read(size)).length;) found.push(rows.length)
    await cursor.close()
    return found
  }
  const ten = 'select id, name from drv_people where id <= $1 order by id'
  for (const size of [1, 3, 5, 10, 11]) say(`portions of ${size}`, await portions(size, ten))
  const left = client.query(new Cursor('select id from drv_people order by id'))
  say('left early', (await left.read(7)).map(({ id }) => id))
  await left.close()
  const failing = client.query(new Cursor('select 1 / ($1 - id) from drv_people order by id', [5]))
  say('before the error', (await failing.read(3)).length)
  await assert.rejects(failing.read(10), { code: '22012' })
  say('after it', (await client.query('select 42 as n')).rows)
}

async function streams (client) {
  const seen = []
  for await (const row of client.query(new QueryStream('select id from drv_people where id > $1', [0], { batchSize: 64 }))) {
    seen.push(row.id)
  }
  assert.strictEqual(seen.length, 1000)
  for await (const row of client.query(new QueryStream('select id from drv_people order by id', [], { batchSize: 10 }))) {
    if (row.id === 25) break // the stream closes its portal
  }
  say('goes on', (await client.query('select 42 as n')).rows)
}

async function collected (stream) {
  const parts = []
  for await (const part of stream) parts.push(part)
  return Buffer.concat(parts)
}

async function copies (client) {
  for (const form of ['text', 'csv', 'binary']) {
    const out = await collected(client.query(copyTo(`copy (select id, name from drv_people order by id) to stdout (format ${form})`)))
    await client.query('truncate drv_sink')
    const parts = []
    for (let at = 0; at < out.length; at += 777) parts.push(out.subarray(at, at + 777))
    const into = client.query(copyFrom(`copy drv_sink from stdin (format ${form})`))
    await pipeline(Readable.from(parts), into)
    say('copied', [form, out.length, into.rowCount, (await client.query('select count(*), max(b) from drv_sink')).rows])
  }
  const both = client.query(copyTo('copy drv_sink to stdout'))
  let octets = 0
  await pipeline(both, new Writable({ write (chunk, _, done) { octets += chunk.length; done() } }))
  say('octets', octets)
  const bad = client.query(copyFrom('copy drv_sink from stdin'))
  await assert.rejects(pipeline(Readable.from(['no number\tx\n']), bad), { code: '22P02' })
  const given = client.query(copyFrom('copy drv_sink from stdin'))
  await assert.rejects(pipeline(Readable.from((function * () { yield '1\tx\n'; throw new Error('changed my mind') })()), given))
  say('goes on', (await client.query('select count(*) from drv_sink')).rows)
}

async function errors (client) {
  const texts = ['select drv_fails()', 'select drv_fails_inside()', 'selec', 'select nothing from drv_people', 'select 1/0',
    "insert into drv_people (id, name) values (1, 'twice')", 'insert into drv_orders (person) values (-1)']
  for (const text of texts) {
    for (const query of [text, { text, values: [] }, { text, queryMode: 'extended' }]) {
      await client.query(query).then(
        () => assert.fail(text),
        error => say('error', ERROR_FIELDS.map(field => [field, error[field]]))
      )
    }
  }
  say('refused', await client.query({ text: 'select $1::int', values: ['no number'] }).catch(error => error.code))
  say('goes on', (await client.query('select 42 as n')).rows) // and nobody leaves before the last answer
}

async function notifications () {
  const [listener, speaker] = [new Client(), new Client()]
  await listener.connect()
  await speaker.connect()
  const heard = new Promise(resolve => listener.once('notification', resolve))
  listener.on('notice', notice => say('notice', [notice.severity, notice.message, notice.detail, notice.hint]))
  await listener.query('listen drv_news')
  await speaker.query("select pg_notify('drv_news', $1)", ['payload'])
  const { channel, payload, processId } = await heard
  say('heard', [channel, payload, processId === speaker.processID])
  await listener.query('select drv_noisy(4)')
  await listener.end()
  await speaker.end()
}

async function pooled () {
  const pool = new Pool({ max: 1 })
  const found = await Promise.all([...Array(20).keys()].map(n => pool.query('select sum(id) as n from drv_people where id <= $1', [n])))
  say('pooled', found.map(({ rows }) => rows[0].n))
  await pool.end()
}

async function main () {
  const client = new Client({ application_name: 'drv node' })
  await client.connect()
  for (const part of [statements, cursors, streams, copies, errors]) {
    say('part', part.name)
    await part(client)
  }
  await client.end()
  await notifications()
  await pooled()
}

main().catch(error => {
  console.error(error)
  process.exit(1)
})
