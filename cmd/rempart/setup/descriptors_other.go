//go:build !unix

package setup

// DescriptorLimit returns how many files and sockets this process may open: this system sets no limit.
func DescriptorLimit() uint64 { return enoughDescriptors }
