// Package secret keeps named secrets of tenants in the store of an engine, sealed: what a copy of the store
// holds of them opens nothing without a key that is kept elsewhere.
//
// A value is encrypted with AES-256-GCM under a random key of its own, and that key under one of a [Keyring]. Both are bound to
// tenant, name and revision, so that what is sealed for one place can't be opened in another. Who may read a value is who has
// the Store in a program: services that flows call, and the check of signatures. No method shows one to people.
//
// It does not hide how long values are, and does not keep who can write the store from deleting a secret or from
// putting the whole of an older record back.
package secret
