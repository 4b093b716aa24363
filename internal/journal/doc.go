// Package journal is the append-only log of signed change sets: control publishes it, and every edge verifies it before it puts a record in force.
// An author signs a change set. Control numbers it, binds it to the previous record by a hash, signs the record, and appends it to a stream
// (internal/journal/stream): package publish does that. A Follower reads records from a Source. It accepts a record only if its signatures, its order and its
// time are valid; otherwise the state in force stays. A Follower needs no secret key and cannot write to the journal.
package journal
