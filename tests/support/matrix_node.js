// The matrix by node-postgres: reads conversations, one a line of JSON, and writes what the driver made of each step.
'use strict'

const readline = require('node:readline')
const { Client, Query } = require('pg')
const Cursor = require('pg-cursor')
const { to: copyTo } = require('pg-copy-streams')

const texts = row => row.map(String)
const failed = (outcome, error) => Object.assign(outcome, { error: error.code || 'none', words: error.message })

// Ask, and keep the rows that come although an error may follow.
function asked (client, config) {
  const outcome = { rows: [], tags: [] }
  return new Promise(resolve => {
    const query = new Query({ ...config, rowMode: 'array' })
    query.on('row', row => outcome.rows.push(texts(row)))
    query.on('error', error => resolve(failed(outcome, error)))
    query.on('end', result => {
      for (const { command, rowCount } of [result].flat()) if (command) outcome.tags.push(`${command} ${rowCount}`)
      resolve(outcome)
    })
    client.query(query)
  })
}

async function inPortions (client, text, sizes) {
  const outcome = { rows: [], tags: [] }
  const cursor = client.query(new Cursor(text, [], { rowMode: 'array' }))
  try {
    for (const size of sizes) {
      const rows = await cursor.read(size)
      outcome.rows.push(...rows.map(texts))
      if (rows.length < size) break
    }
    await cursor.close()
  } catch (error) {
    failed(outcome, error)
  }
  return outcome
}

function copied (client, text) {
  const outcome = { rows: [], tags: [] }
  let data = ''
  return new Promise(resolve => {
    const stream = client.query(copyTo(`copy (${text}) to stdout`))
    stream.on('data', chunk => { data += chunk })
    stream.on('end', () => {
      outcome.rows = data.split('\n').slice(0, -1).map(line => line.split('\t'))
      resolve(outcome)
    })
    stream.on('error', error => resolve(failed(outcome, error))) // how much of the data came first is a matter of chance
  })
}

const OPERATIONS = {
  simple: client => text => asked(client, { text }),
  unnamed: client => text => asked(client, { text, queryMode: 'extended' }),
  prepare: () => async () => ({}), // it prepares when it executes
  named: client => text => asked(client, { name: 's', text }),
  portal: (client, { portion }) => text => inPortions(client, text, Array(1000).fill(portion)),
  again: (client, { first }) => text => inPortions(client, text, [first, 1000]),
  copy: client => text => copied(client, text),
  pipeline: client => text => asked(client, { text, queryMode: 'extended' })
}

async function converse (conversation) {
  const { port, user, database } = conversation
  const client = new Client({ host: '127.0.0.1', port, user, database, ssl: false })
  await client.connect()
  const outcomes = []
  for (const { op, texts } of conversation.steps) {
    outcomes.push(...await Promise.all(texts.map(OPERATIONS[op](client, conversation))))
  }
  await client.end()
  return outcomes
}

readline.createInterface({ input: process.stdin }).on('line', line => {
  const conversation = JSON.parse(line)
  const answer = said => console.log(JSON.stringify({ number: conversation.number, ...said }))
  converse(conversation).then(outcomes => answer({ outcomes }), problem => answer({ problem: problem.stack }))
})
