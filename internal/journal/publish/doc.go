// Package publish is control's side of the journal: it numbers, signs and appends records, announces snapshots, publishes the differences of lists, repairs and
// recovers a journal that lost records, and answers questions about its history. Control owns the stream (internal/journal/stream) and a journal.Follower,
// which holds the state in force.
package publish
