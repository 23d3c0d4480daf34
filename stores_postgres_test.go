package pawl_test

// stores are those that every conformance test runs on.
var stores = []namedStore{{"sqlite", sqliteStores}}
