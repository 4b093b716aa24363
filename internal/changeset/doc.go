// Package changeset implements the steps of a change set: it is pushed, checked by the guards, held for a second person or published,
// staged, extended to all nodes, withdrawn or undone.
//
// state.go holds the one table of states and transitions. A Lifecycle applies it: it stores receipts and held change sets in
// the journal's buckets, and publishes through a publish.Control. The package does not use HTTP or roles: its caller checks
// who may request a step. The package itself checks that a second person approves, and that the required keys have signed.
package changeset
