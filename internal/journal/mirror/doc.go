// Package mirror carries the journal over HTTP: files that any web server or CDN can hold, since each says itself who signed it.
//
//	head            the newest heartbeat; a control holds its answer back until there is a later one than ?after=
//	snapshot        the record of the newest snapshot
//	records/N       the record that made version N
//	objects/NAME    snapshots, overlays, large change sets
//	status          to which nodes report, at a control
package mirror
