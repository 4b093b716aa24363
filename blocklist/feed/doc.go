// Package feed manages the configured lists ([Lists]): when to fetch a list, whether to accept its content, which copies to keep, and the
// set that is compiled from the copies and published.
//
// The packages below do the rest: format reads lists, fetch fetches them, bounded limits the memory of both.
package feed
