// Package wire is a view over a packed DNS message: names, queries, and answers
// built in place. It imports no other room, allocates nothing on the way of a
// query, and never guesses: what it does not fully understand it says so, and the
// slow path decodes it in full.
package wire
