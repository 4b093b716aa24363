// Package checks tests the files of deploy/compose and deploy/kubernetes against the types of Compose and Kubernetes, and against the settings of the program.
package checks
