// Package feed manages the configured lists ([Lists]): when to fetch a list, whether to accept its content, which copies to keep, and the
// set that is compiled from the copies and published.
//
// Reading lists is package format, fetching them fetch, storing them store; guardfile loads the guards that listings pass.
package feed
