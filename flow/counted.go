package flow

// Counted is what budgets count of a cost: what is known of it, and for each call whose cost is not known an amount that it
// can hardly be over. Where a part is assumed, the cost that stands beside it is null: it may be less.
type Counted struct {
	CountedMicroUSD int64 `json:"countedMicroUsd"` // in millionths of a US dollar
	AssumedMicroUSD int64 `json:"assumedMicroUsd"` // the part that was assumed, as the price of a model is not known, or the provider did not say what a call used
}

// take counts one more amount.
func (c *Counted) take(micro int64, assumed bool) {
	c.CountedMicroUSD += micro
	if assumed {
		c.AssumedMicroUSD += micro
	}
}

// and counts what other has counted.
func (c *Counted) and(other Counted) {
	c.CountedMicroUSD += other.CountedMicroUSD
	c.AssumedMicroUSD += other.AssumedMicroUSD
}

// micro is the cost in millionths of a US dollar; nil: it is not known.
func (c Counted) micro() *int64 {
	if c.AssumedMicroUSD != 0 {
		return nil
	}
	return &c.CountedMicroUSD
}

// usd is the cost in US dollars; nil: it is not known.
func (c Counted) usd() *float64 {
	if c.AssumedMicroUSD != 0 {
		return nil
	}
	usd := float64(c.CountedMicroUSD) / 1e6
	return &usd
}

// dollars is the cost for people; nil: it is not known.
func (c Counted) dollars() *string {
	if c.AssumedMicroUSD != 0 {
		return nil
	}
	text := Dollars(c.CountedMicroUSD)
	return &text
}

// each is what one of n costs; nil: it is not known.
func (c Counted) each(n int64) *int64 {
	if c.AssumedMicroUSD != 0 {
		return nil
	}
	var each int64
	if n > 0 {
		each = (c.CountedMicroUSD + n/2) / n
	}
	return &each
}

// SayCost writes a cost for people: "$0.0312", and of one that is not known "$0.0020 + unknown ($0.1000 assumed)".
func (c Counted) SayCost() string {
	known := c.CountedMicroUSD - c.AssumedMicroUSD
	if c.AssumedMicroUSD == 0 {
		return Dollars(known)
	}
	text := "unknown (" + Dollars(c.AssumedMicroUSD) + " assumed)"
	if known != 0 {
		text = Dollars(known) + " + " + text
	}
	return text
}
