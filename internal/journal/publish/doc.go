// Package publish is control's side of the journal: it numbers, signs and appends records, announces snapshots, publishes the differences of lists, repairs and
// recovers a journal that lost records, and searches the journal for the history of a name and the changes that undo a change set. A Control writes to a stream
// (internal/journal/stream), which its caller opens and closes, and has a journal.Follower that holds the state in force.
package publish
