// Package resolver is the way of one query. [Worker.Fast] answers what it can in place, on packed
// bytes, a batch at a time: errors, special-use names, blocks, cached answers. What needs an
// upstream, or the complete decoder, goes on in [Resolver.Slow]. Neither knows sockets, lists or files.
package resolver
