// Package feed brings lists in: it reads the forms lists are written in ([Parse]), fetches and
// watches the lists an operator configured, keeps the last good copy of each, and puts the set
// compiled from them in force ([Lists]).
//
// What comes in is hostile until it is read: every size is bounded, every name is checked, and
// what a line does not plainly say is refused and counted, never guessed. No listing is broader
// than its line.
package feed
