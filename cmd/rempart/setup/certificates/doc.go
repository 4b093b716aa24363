// Package certificates opens the certificates of the program: of the encrypted transports, from files or by ACME, of the operators' API and of policy zones. It also
// derives from them how clients discover this resolver.
package certificates
