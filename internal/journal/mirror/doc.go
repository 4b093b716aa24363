// Package mirror transports the journal over HTTP. Its files are signed, so that any web server or CDN can serve them.
//
//	head            the newest heartbeat; a control waits up to ?wait= seconds for another version than ?after=
//	snapshot        the record of the newest snapshot
//	records/N       the record of version N
//	objects/NAME    snapshots, overlays, large change sets
//	status          nodes report to it, at a control only
package mirror
