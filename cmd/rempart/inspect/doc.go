// Package inspect holds the commands that examine lists, names, the set and the running server. They change nothing, except for allow, which adds names to
// a file.
package inspect
