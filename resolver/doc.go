// Package resolver is the path of a query. [Worker.Fast] answers in place, on packed bytes, one batch at a time: errors, special-use names, blocks, cached
// answers. Queries that need an upstream or the complete decoder continue in [Resolver.Slow]. Neither knows sockets, lists or files.
package resolver
