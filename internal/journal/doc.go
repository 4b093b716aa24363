// Package journal is the append-only log of signed change sets: what control writes, and what every edge
// checks for itself before it puts it in force.
//
// An author signs a change set. Control numbers it, binds it to the record before by a hash, signs the record, and
// appends it to a stream (internal/journal/stream). A Follower reads records from wherever they are kept, takes what is
// rightly signed, in order and fresh, and keeps what it has when anything is not. It needs no secret and can write nothing.
package journal
