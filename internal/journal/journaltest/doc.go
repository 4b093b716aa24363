// Package journaltest makes controls, edges and keys for the tests of the journal. It is imported by tests only.
package journaltest
