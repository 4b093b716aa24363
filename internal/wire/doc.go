// Package wire is a view over a packed DNS message: names, queries, and answers built in place. It imports no other package of the module, allocates nothing on
// the path of a query, and never guesses: it reports a message that it does not fully understand, and the slow path decodes it completely.
package wire
