// Package pgtest gives tests a real PostgreSQL of their own, without Docker and without setting anything up.
//
// [URL] is what most tests want: the address of a fresh, empty database in one server that the test process shares.
// [Start] starts a server that one test may crash and start again.
//
// The programs initdb and postgres are taken from PATH, else from the newest /usr/lib/postgresql/*/bin. Run by root, they
// work as the user postgres, because PostgreSQL refuses root; that user must be able to enter the directory for temporary files.
// Servers listen on a unix socket in a directory of their own, so that neither ports nor other servers are in the way.
//
// The package never skips a test: where no PostgreSQL can be had, the test fails and says what to install.
// It never leaves a server or a data directory behind, not even when the test process is killed.
package pgtest
