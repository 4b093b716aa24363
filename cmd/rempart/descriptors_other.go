//go:build !unix

package main

// descriptorLimit returns how many files and sockets this process may open: this system sets no limit.
func descriptorLimit() uint64 { return enoughDescriptors }
