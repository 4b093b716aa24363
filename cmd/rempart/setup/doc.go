// Package setup creates the parts of the program from settings: lists and guards, upstream pools, certificates, listeners, policy zones, and the connection to a
// control. Every command that needs one of these parts calls this package.
package setup
