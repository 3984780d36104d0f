// Package door stands before a TCP port that strangers can reach. A connection that has not yet shown who it is may
// stay for a short time only, may send little, and only so many of its kind are there at once; those that it turns
// away are counted by reason and told of in a log that a flood cannot fill.
//
// Whose connection it is, is for the user to say: Guest.Admit lets it stay, Guest.Refuse ends it. For gRPC,
// Credentials makes the guest known to handlers, see From.
package door
