// Package setup makes configured parts from settings: lists and guards, upstream pools, certificates, listeners, policy zones, and the connection to a
// control. Every command that needs one of these parts makes it here.
package setup
