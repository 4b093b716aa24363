//go:build !linux

package listen

// byForward is never set: here no query is forwarded in a batch.
const byForward = false

type forwarding struct{ Handler }
