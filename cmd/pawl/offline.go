package main

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/service/database"
)

// assumed is a service that stands for one of a server whose settings are not known here. Flows are checked against its actions,
// and are told what could not be checked.
type assumed struct {
	service.Service
	change func(schema map[string]any)
	known  func(params map[string]any) // leaves of a call's parameters what can be known here
}

// Actions are those of the service, with parameters that take what the settings of a server may allow.
func (s assumed) Actions() (all []service.Action) {
	for _, a := range s.Service.Actions() {
		var schema map[string]any
		if err := json.Unmarshal(a.Params, &schema); err != nil {
			panic(err) // it is our own
		}
		s.change(schema)
		data, err := json.Marshal(schema)
		if err != nil {
			panic(err) // it was JSON
		}
		a.Params = data
		all = append(all, a)
	}
	return all
}

// Call tries a call, as far as it can be known. It carries out nothing.
func (s assumed) Call(ctx context.Context, c service.Call) (any, error) {
	params := map[string]any{}
	in := json.NewDecoder(bytes.NewReader(c.Params))
	in.UseNumber()
	err := in.Decode(&params)
	if err != nil {
		return nil, &service.Error{Code: service.Invalid, Message: "the parameters are no object: " + err.Error()}
	}
	s.known(params)
	if c.Params, err = json.Marshal(params); err != nil {
		return nil, err
	}
	c.DryRun = true
	return s.Service.Call(ctx, c)
}

// anyDatabase is the service of databases where none is set: it takes the name of any connection.
func anyDatabase() (service.Service, error) {
	made, err := database.New(database.Options{Connections: map[string]database.Connection{"any": {DSN: "postgres://none.invalid/none", Execute: true}}})
	return assumed{made, func(schema map[string]any) {
		schema[service.Note] = "the connections of databases are not known here; set databases, or PAWL_DATABASES, to have them checked"
		connection := schema["properties"].(map[string]any)["connection"].(map[string]any)
		delete(connection, "enum")
		connection["type"] = "string"
	}, func(params map[string]any) { delete(params, "connection") }}, err
}

// anyTemplate is the service of mails where no folder of templates is set.
func anyTemplate(mail service.Service) service.Service {
	return assumed{mail, func(schema map[string]any) {
		of := schema["properties"].(map[string]any)
		of["template"] = map[string]any{"type": "string", "x-pawl-fill": service.FillNone, service.Note: "the templates of mails are not known here; set SMTP_TEMPLATES to have them checked"}
		of["data"] = map[string]any{"type": "object"}
	}, func(params map[string]any) {
		if params["template"] != nil {
			delete(params, "template")
			delete(params, "data")
			params["text"] = "made of the template"
		}
	}}
}
