// Package guardfile loads the guards from the files that an operator configures: essential names, a popularity list and released names.
//
// One [Loader] serves everybody who passes listings through the guards, lists and pushes, so that all of them use the same guards at any time.
package guardfile
