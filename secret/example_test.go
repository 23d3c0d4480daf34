package secret_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/secret"
	"github.com/pawlrun/pawl/sqlite"
)

func Example() {
	store, err := sqlite.Open(sqlite.Memory, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	keys, err := secret.ParseKeys(secret.NewKey()) // kept elsewhere than the store, as in os.Getenv("ENCRYPTION_KEYS")
	if err != nil {
		log.Fatal(err)
	}
	ctx, secrets := context.Background(), &secret.Store{Engine: pawl.New(store, nil), Keys: keys}
	if err := secrets.Check(ctx); err != nil { // names the keys that are missing
		log.Fatal(err)
	}
	for _, value := range []string{"old", "new"} { // for a day a sender may sign with either
		_, err = secrets.Set(ctx, secret.Spec{Tenant: "red", Name: "hub", Value: value, By: "ann", PreviousUntil: time.Now().Add(24 * time.Hour), Revision: secret.AnyRevision})
		if err != nil {
			log.Fatal(err)
		}
	}
	value, err := secrets.Value(ctx, "red", "hub")
	fmt.Println(value, err)
	values, err := secrets.Values(ctx, "red", "hub")
	fmt.Println(values, err)
	_, err = secrets.Value(ctx, "blue", "hub")
	fmt.Println(err)
	// Output:
	// new <nil>
	// [new old] <nil>
	// pawl: not found: secret "hub"
}
