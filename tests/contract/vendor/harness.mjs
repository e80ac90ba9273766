// Serves the vendor's REST interface on 127.0.0.1, with a stub of Xen Orchestra behind it.
//
// Usage: node harness.mjs SEED, where SEED is a JSON file with `objects`, `records`, `users`, `tokens` and `images`.
// Prints {"port": N} as one line once it listens, and ends with its standard input, so with whoever started it.
//
// Below /-/ are requests of the tests' own: to start over, to look into the journal, to let calls of the pool fail or
// wait.

import { AsyncLocalStorage } from 'node:async_hooks'
import { readFile } from 'node:fs/promises'
import cookieParser from 'cookie-parser'
import express from 'express'
import setupRestApi from '@xen-orchestra/rest-api'
import { makePeople, makeRecords } from './people.mjs'
import { Pool } from './pool.mjs'
import { Store } from './store.mjs'
import { Tasks } from './tasks.mjs'

const context = new AsyncLocalStorage()

// What the REST interface asks for, made anew from the seed each time the tests start over.
function makeState(seed) {
  const store = new Store(seed.objects)
  const pool = new Pool(store, seed.images)
  return {
    ...makePeople(seed),
    ...makeRecords(seed.records),
    pool,
    requests: [],
    tasks: new Tasks(() => context.getStore()?.user),
    getObject: (key, type) => store.get(key, type),
    getObjectsByType: (type, options) => store.ofType(type, options),
    hasObject: key => store.has(key),
    getXapi: key => {
      store.get(typeof key === 'string' ? key : key.id)
      return pool.xapi
    },
    getXapiObject: (key, type) => pool.record(key, type),
    checkFeatureAuthorization: async () => {},
    config: { get: () => 20, getOptional: () => undefined, getOptionalDuration: () => undefined, getGuiRoutes: () => ({}) },
  }
}

// The application that is given away once; each of its members is that of the state of now.
const makeApplication = current =>
  new Proxy(
    {
      get apiContext() {
        return context.getStore() ?? {}
      },
      runWithApiContext: (user, fn) => context.run({ user }, fn),
    },
    { get: (own, name) => (name in own ? own[name] : current()[name]) }
  )

function addControls(app, seed, current, replace) {
  const controls = express.Router()
  controls.use(express.json())
  controls.post('/reset', (_, res) => {
    replace(makeState(seed))
    res.sendStatus(204)
  })
  controls.get('/journal', (_, res) => {
    res.json({ calls: current().pool.journal, requests: current().requests })
  })
  controls.post('/fail', ({ body }, res) => {
    current().pool.fail(body.method, body.code, body.params)
    res.sendStatus(204)
  })
  controls.post('/hold', ({ body }, res) => {
    current().pool.hold(body.method)
    res.sendStatus(204)
  })
  controls.post('/release', ({ body }, res) => {
    current().pool.release(body.method)
    res.sendStatus(204)
  })
  app.use('/-', controls)
}

async function main() {
  const seed = JSON.parse(await readFile(process.argv[2], 'utf8'))
  let state = makeState(seed)
  const current = () => state
  const app = express()
  app.set('json spaces', 2)
  addControls(app, seed, current, replacement => {
    state = replacement
  })
  app.use((req, res, next) => {
    const { method, originalUrl } = req
    const { requests } = state
    res.on('close', () => requests.push({ method, path: originalUrl.split('?')[0], status: res.statusCode }))
    next()
  })
  app.use(cookieParser())
  setupRestApi(app, makeApplication(current))
  const server = app.listen(0, '127.0.0.1', () => {
    process.stdout.write(JSON.stringify({ port: server.address().port }) + '\n')
  })
}

// Every export listens for SIGTERM, and with a listener of any kind the process would outlive it.
process.setMaxListeners(0)
process.on('SIGTERM', () => process.exit(0))
// Some refusals escape the vendor's code; its application notes them and lives on, with the request unanswered.
process.on('unhandledRejection', error => console.error(error))
process.stdin.on('end', () => process.exit(0)).resume()
await main()
