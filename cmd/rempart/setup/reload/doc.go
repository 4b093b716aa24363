// Package reload holds values that are loaded from files, and loads them again when the files change or on SIGHUP.
package reload
