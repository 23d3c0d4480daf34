package api

import (
	"context"
	"net/http"
	"time"

	"github.com/pawlrun/pawl/trigger"
)

// SubscriptionRequest says which events start which workflow.
type SubscriptionRequest struct {
	Event    string `json:"event" doc:"The events' name."`
	Where    string `json:"where,omitempty" doc:"An expression (CEL) on event.id, event.name and event.data that an event must fit; left out: all do."`
	Workflow string `json:"workflow" doc:"What each of them starts; its input is the event's data."`
}

// Subscription is a subscription as it is.
type Subscription struct {
	ID string `json:"id"`
	SubscriptionRequest
	Tenant   string    `json:"tenant,omitempty"`
	Revision int64     `json:"revision" doc:"Another after each change."`
	ETag     string    `json:"etag" doc:"Names the revision, for If-Match."`
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
}

// SubscriptionPage is a page of subscriptions, by id.
type SubscriptionPage struct {
	Items      []Subscription `json:"items"`
	NextCursor string         `json:"nextCursor,omitempty" doc:"Where the next page begins; left out: this is the last."`
}

// MatchedPage is a page of the events that a subscription has taken, oldest first.
type MatchedPage struct {
	Items      []trigger.Matched `json:"items"`
	NextCursor string            `json:"nextCursor,omitempty" doc:"Where the next page begins; left out: this is the last. A page before the last may be short or empty."`
}

type subscriptionsInput struct {
	Q      string `query:"q" doc:"Only those whose id begins so."`
	Cursor string `query:"cursor"`
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"500"`
}

type subscriptionInput struct {
	ID string `path:"id"`
}

type putSubscriptionInput struct {
	ID    string `path:"id"`
	Match string `header:"If-Match" doc:"The ETag that the subscription must still have."`
	None  string `header:"If-None-Match" enum:"*" doc:"*: it must be new."`
	Body  SubscriptionRequest
}

type deleteSubscriptionInput struct {
	ID    string `path:"id"`
	Match string `header:"If-Match" doc:"The ETag that the subscription must still have."`
}

type matchedInput struct {
	ID     string `path:"id"`
	Since  moment `query:"since" doc:"Published at or after: a day in UTC or a time; left out: as old as they are kept."`
	Cursor string `query:"cursor"`
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"500"`
}

type subscriptionOutput struct {
	ETag string `header:"ETag" doc:"Names its revision, for If-Match."`
	Body Subscription
}

func (s *server) subscriptionRoutes() {
	get := func(id, path, summary string) route {
		return route{id: id, method: http.MethodGet, path: path, scope: RunsRead, summary: summary}
	}
	add(s, get("subscriptions", "/api/subscriptions", "List subscriptions to events, by id"), s.subscriptions)
	add(s, get("subscription", "/api/subscriptions/{id}", "Look at a subscription"), func(ctx context.Context, in *subscriptionInput) (*subscriptionOutput, error) {
		return subscribed(trigger.FindSubscription(ctx, s.engine, tenantOf(ctx), in.ID))
	})
	matched := get("subscriptionEvents", "/api/subscriptions/{id}/events", "Read which events a subscription has taken, oldest first")
	matched.about = "Of those that are still kept, 24 hours or longer, and under the name that it has now; also those on which its expression failed."
	add(s, matched, s.matched)
	add(s, route{id: "putSubscription", method: http.MethodPut, path: "/api/subscriptions/{id}", scope: SchedulesWrite, summary: "Let events start runs"}, s.putSubscription)
	add(s, route{id: "deleteSubscription", method: http.MethodDelete, path: "/api/subscriptions/{id}", scope: SchedulesWrite, status: http.StatusNoContent, summary: "Remove a subscription; its runs go on"},
		func(ctx context.Context, in *deleteSubscriptionInput) (*noOutput, error) {
			must, err := s.revisionsOf(ctx, in.ID, in.Match, "")
			if err != nil {
				return nil, err
			}
			return &noOutput{}, lostChange(trigger.Unsubscribe(ctx, s.engine, tenantOf(ctx), in.ID, must...))
		})
}

// revisionsOf reads If-Match and If-None-Match.
func (s *server) revisionsOf(ctx context.Context, id, match, none string) ([]trigger.IfRevision, error) {
	revision, err := revisionOf(match)
	switch {
	case err != nil:
		return nil, err
	case revision != 0:
		return []trigger.IfRevision{trigger.IfRevision(revision)}, nil
	case match == "*": // there must be one
		now, err := trigger.FindSubscription(ctx, s.engine, tenantOf(ctx), id)
		return []trigger.IfRevision{trigger.IfRevision(now.Revision)}, err
	case none != "":
		return []trigger.IfRevision{0}, nil
	}
	return nil, nil
}

func (s *server) putSubscription(ctx context.Context, in *putSubscriptionInput) (*subscriptionOutput, error) {
	must, err := s.revisionsOf(ctx, in.ID, in.Match, in.None)
	if err != nil {
		return nil, err
	}
	out, err := trigger.Subscribe(ctx, s.engine, trigger.Subscription{ID: in.ID, Tenant: tenantOf(ctx), Event: in.Body.Event, Where: in.Body.Where, Workflow: in.Body.Workflow}, must...)
	return subscribed(out, lostChange(err))
}

func subscriptionOf(s trigger.Subscription) Subscription {
	return Subscription{
		ID: s.ID, Tenant: s.Tenant, Revision: s.Revision, ETag: revisionTag(s.Revision), Created: s.Created, Updated: s.Updated,
		SubscriptionRequest: SubscriptionRequest{Event: s.Event, Where: s.Where, Workflow: s.Workflow},
	}
}

func subscribed(s trigger.Subscription, err error) (*subscriptionOutput, error) {
	if err != nil {
		return nil, err
	}
	return &subscriptionOutput{ETag: revisionTag(s.Revision), Body: subscriptionOf(s)}, nil
}

func (s *server) subscriptions(ctx context.Context, in *subscriptionsInput) (*output[SubscriptionPage], error) {
	after, err := readMark("subscription:", in.Cursor)
	if err != nil {
		return nil, err
	}
	found, err := trigger.Subscriptions(ctx, s.engine, tenantOf(ctx), in.Q, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	page := SubscriptionPage{Items: []Subscription{}}
	for _, sub := range found[:min(in.Limit, len(found))] {
		page.Items = append(page.Items, subscriptionOf(sub))
	}
	if len(found) > in.Limit {
		page.NextCursor = mark("subscription:", found[in.Limit-1].ID)
	}
	return &output[SubscriptionPage]{page}, nil
}

func (s *server) matched(ctx context.Context, in *matchedInput) (*output[MatchedPage], error) {
	at, err := readMark("matched:", in.Cursor)
	if err != nil {
		return nil, err
	}
	found, next, err := trigger.Matches(ctx, s.engine, tenantOf(ctx), in.ID, in.Since.Time, at, in.Limit)
	if err != nil {
		return nil, err
	}
	page := MatchedPage{Items: append([]trigger.Matched{}, found...)}
	if next != "" {
		page.NextCursor = mark("matched:", next)
	}
	return &output[MatchedPage]{page}, nil
}
