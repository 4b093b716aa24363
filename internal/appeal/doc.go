// Package appeal keeps the requests of the public for a review of a block, from their receipt to the decision and its effect.
//
// An appeal is a chain of records in one value of a bucket of the journal's store. Control signs each record, and each holds the hash of the previous one. What an
// appeal is now follows from its records (replay.go). A Desk files appeals, and records the decisions of reviewers; an upheld appeal then becomes a change set.
// A record is durable before its effect: after a crash the Desk takes the missing step again. An appeal is deleted when its retention ends.
//
// The package does not use HTTP or roles: its callers check who may request a step. It stores no address of a client.
package appeal
