// Measures pg-workflows under pawl's load: workflows of ten step.run, on the database that DATABASE_URL names.
// Prints one line of JSON, of the same form as load.Report. How many runs it works on at a time is the number of its
// workers, WORKFLOW_RUN_WORKERS (its own variable, 3 by default); each takes one run per half second at most.
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { WorkflowEngine, workflow } from 'pg-workflows'

const text = 'a hundred bytes of text, as the short answer of a model would be, so that payloads are not nothing…'
const number = (value) => ({ type: 'string', default: String(value) })
const { values } = parseArgs({ options: { runs: number(1500), alone: number(10), events: number(10) } })
const [runs, alone, events] = [values.runs, values.alone, values.events].map(Number)

// The steps stand one by one because the library reads their names from the source.
const ten = workflow('ten', async ({ step, input }) => {
  const a = await step.run('step-1', async () => ({ N: input.n + 1, Text: text }))
  const b = await step.run('step-2', async () => ({ N: a.N + 1, Text: text }))
  const c = await step.run('step-3', async () => ({ N: b.N + 1, Text: text }))
  const d = await step.run('step-4', async () => ({ N: c.N + 1, Text: text }))
  const e = await step.run('step-5', async () => ({ N: d.N + 1, Text: text }))
  const f = await step.run('step-6', async () => ({ N: e.N + 1, Text: text }))
  const g = await step.run('step-7', async () => ({ N: f.N + 1, Text: text }))
  const h = await step.run('step-8', async () => ({ N: g.N + 1, Text: text }))
  const i = await step.run('step-9', async () => ({ N: h.N + 1, Text: text }))
  const j = await step.run('step-10', async () => ({ N: i.N + 1, Text: text }))
  return j.N
})

const wait = workflow('wait', async ({ step, input }) => {
  const event = await step.waitFor('go', { eventName: 'go' })
  return input.n + event?.v // undefined on the pass that pauses: the library lets that one run on to its end
})

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL }) // for what this program asks itself
const quiet = { log() {}, error: console.error }
const engine = new WorkflowEngine({ connectionString: process.env.DATABASE_URL, workflows: [ten, wait], logger: quiet })
await engine.start()

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const start = (id, n) => engine.startWorkflow({ workflowId: id, input: { n } })
const quantile = (sorted, q) => sorted[Math.floor(sorted.length * q)]

async function until(id, status) {
  for (;;) {
    const run = await engine.getRun({ runId: id })
    if (run.status === status) return run
    if (['completed', 'failed', 'cancelled'].includes(run.status)) throw new Error(`run ${id} is ${run.status}: ${run.error}`)
    await sleep(5)
  }
}

function check(run, want) {
  if (run.output !== want) throw new Error(`run ${run.id} returned ${JSON.stringify(run.output)}, not ${want}`)
}

async function many(runs) {
  const began = performance.now()
  let next = 0
  const ids = []
  await Promise.all(Array.from({ length: 20 }, async () => {
    for (let i = next++; i < runs; i = next++) ids.push((await start('ten', i)).id)
  }))
  for (;;) {
    const { rows } = await pool.query(`SELECT count(*) FILTER (WHERE status = 'completed')::int AS done,
      count(*) FILTER (WHERE status IN ('failed', 'cancelled'))::int AS bad FROM workflow_runs WHERE id = ANY($1)`, [ids])
    if (rows[0].bad > 0) throw new Error(`${rows[0].bad} runs failed`)
    if (rows[0].done === runs) break
    await sleep(50)
  }
  const seconds = (performance.now() - began) / 1000
  const { rows } = await pool.query(`SELECT extract(epoch FROM completed_at - created_at)::float8 * 1000 AS ms,
    output = to_jsonb((input->>'n')::int + 10) AS right FROM workflow_runs WHERE id = ANY($1) ORDER BY 1`, [ids])
  if (rows.some((r) => !r.right)) throw new Error('a run returned something else than its input plus ten')
  return { seconds, took: rows.map((r) => r.ms) }
}

await many(20) // to warm it up
const { seconds, took } = await many(runs)
const figures = { steps_per_second: (runs * 10) / seconds, run_p50_ms: quantile(took, 0.5), run_p99_ms: quantile(took, 0.99) }

const singly = []
for (let i = 0; i < alone; i++) {
  const began = performance.now()
  check(await until((await start('ten', i)).id, 'completed'), i + 10)
  singly.push(performance.now() - began)
}
singly.sort((a, b) => a - b)
if (alone > 0) figures.alone_ms_per_step = quantile(singly, 0.5) / 10

const ends = []
for (let i = 0; i < events; i++) {
  const { id } = await start('wait', i)
  await until(id, 'paused')
  // Until the pass that paused has ended, or it takes what that returns for the result; and at no fixed phase of the
  // workers' polling. Not measured.
  await sleep(300 + 500 * Math.random())
  const began = performance.now()
  await engine.triggerEvent({ runId: id, eventName: 'go', data: { v: 1 } })
  check(await until(id, 'completed'), i + 1)
  ends.push(performance.now() - began)
}
ends.sort((a, b) => a - b)
if (events > 0) Object.assign(figures, { event_p50_ms: quantile(ends, 0.5), event_p99_ms: quantile(ends, 0.99) })

const setting = async (name) => `${name} ${(await pool.query(`SHOW ${name}`)).rows[0][name]}`
const version = JSON.parse(readFileSync(new URL('node_modules/pg-workflows/package.json', import.meta.url))).version
console.log(JSON.stringify({
  version: `pg-workflows ${version}, PostgreSQL ${(await pool.query('SHOW server_version')).rows[0].server_version}, Node ${process.version}`,
  durability: `PostgreSQL, ${await setting('fsync')}, ${await setting('synchronous_commit')}`,
  in_flight: Math.min(Number(process.env.WORKFLOW_RUN_WORKERS ?? 3), runs),
  figures,
}))
await engine.stop()
await pool.end()
