// Package changeset is the life of a change set: it is pushed, checked by the guards, held for a second person or published,
// staged, extended to all nodes, withdrawn or undone.
//
// state.go holds the one table of states and transitions. A Lifecycle applies it: it stores receipts and held change sets in
// the journal's buckets, and publishes through a journal.Control. The package knows no HTTP and no roles: its caller decides
// who may ask for a step. It decides itself that a second person must approve, and which keys must have signed.
package changeset
