// Package dbchange starts a run for each change of a database that belongs to others.
//
//   - A [Source] says what to watch and what to start. [Sources] keeps them in the store of an
//     engine, and tells how they stand.
//   - By Query: rows of a query whose cursor column grows. Nothing is written to the database.
//   - By Table: triggers write what changes into an outbox beside the table, see [Outbox].
//   - A [Runner] watches. Any number may run on one store: a lease leaves each source to one of them.
//
// A run's id is made of its source and its row, so that two who start the same start one. Where a source has come to
// is a record of pawl's store for a query, and what is left in the outbox for a table; both
// move on after the runs are committed. A crash between the two does the start again, which finds the run.
//
// What is promised of each way, and what it costs the watched database, is in docs/triggers.md.
package dbchange
