// Package disk tells how much space there is, so that a store refuses what does not fit
// before the system does.
package disk
