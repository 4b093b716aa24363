// Package signing creates, encodes and checks keys, signatures and key rings. [Seal] signs bytes, and [Unseal] separates them from their signatures. A [Ring]
// lists the keys and their roles; a root key signs it. [Keys] is the folder with the secret keys of one control.
//
// The package knows which key may do what, but not the meaning of the signed bytes: that belongs to internal/journal.
package signing
