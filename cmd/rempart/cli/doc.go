// Package cli holds the parts of a command that do not depend on its task: exit codes, flags, signals, a line of progress, output without secrets, and the
// program's version.
package cli
