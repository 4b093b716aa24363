// Package deploy holds the files that an installation begins with, so that the program can write them.
package deploy

import "embed"

// Household holds the settings of a household and the files that they name: household.env, feeds.toml, allow.txt and released.txt.
//
//go:embed household.env feeds.toml allow.txt released.txt
var Household embed.FS
