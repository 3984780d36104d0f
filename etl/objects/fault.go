package objects

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/storage"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"google.golang.org/api/googleapi"
)

// ErrNotFound: there is no such object, or no such bucket.
var ErrNotFound = errors.New("not found")

// ErrExists: another object is at the key already.
var ErrExists = errors.New("another object is at this key")

// ErrReplaced: the GCS object is gone in the generation that was planned. Plan the chunk again.
var ErrReplaced = errors.New("source is gone in this generation, or was replaced")

// ErrChecksum: bytes are not what their CRC32C says.
var ErrChecksum = errors.New("wrong checksum")

// errNoUpload: the multipart upload is over, by whoever ended it.
var errNoUpload = errors.New("no such upload")

// errList: what a server lists cannot be: nothing has a size below 0, and no list comes back to where it was.
var errList = errors.New("the server's list cannot be true")

// errNoChecksums: the S3 server refuses checksums, or ignores them.
var errNoChecksums = errors.New("the server keeps no CRC32C")

// Fault is what a cloud answered, judged. Every error of a call to S3, GCS or BigQuery holds one, unless the context ended it.
type Fault struct {
	Op        string        // what was tried: "upload part 3 of s3://bucket/key"
	Permanent bool          // trying again does not help before somebody has done something
	Hint      string        // what to do; "" when there is nothing to say
	Wait      time.Duration // the server asked for so much patience; 0: it did not
	Err       error
}

func (f *Fault) Error() string {
	if f.Hint == "" {
		return fmt.Sprintf("%s: %v", f.Op, f.Err)
	}
	return fmt.Sprintf("%s: %v (%s)", f.Op, f.Err, f.Hint)
}

func (f *Fault) Unwrap() error { return f.Err }

// Permanent tells whether trying again is useless. An error that nobody judged counts as permanent.
func Permanent(err error) bool {
	var f *Fault
	return !errors.As(err, &f) || f.Permanent
}

// Judge makes a Fault of an error of S3, GCS or BigQuery, unless it is one, or the caller's own context ended the call: then it is
// the context's error.
func Judge(ctx context.Context, op string, err error) error {
	var f *Fault
	switch {
	case err == nil:
		return nil
	case errors.As(err, &f):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", op, context.Cause(ctx))
	}
	f = &Fault{Op: op, Err: err}
	var google *googleapi.Error
	var amazon smithy.APIError
	var signing *v4.SigningError
	switch {
	case errors.As(err, &google):
		f.judgeGoogle(google)
	case errors.Is(err, storage.ErrBucketNotExist), errors.Is(err, storage.ErrObjectNotExist):
		f.Permanent, f.Err = true, fmt.Errorf("%w: %w", ErrNotFound, err)
	case errors.As(err, &amazon):
		f.judgeAmazon(amazon)
	case errors.As(err, &signing):
		f.Permanent, f.Hint = true, "S3 needs credentials: access_key and secret_key, AWS_PROFILE, or a role"
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrExists), errors.Is(err, ErrReplaced), errors.Is(err, errNoUpload):
		f.Permanent = true
	case errors.Is(err, errList):
		f.Permanent, f.Hint = true, "is that the server that you mean?"
	case errors.Is(err, errNoChecksums):
		f.Permanent, f.Hint = true, "`checksums: auto` puts up with such a server"
	}
	return f // what is left are connections that fail or end, and wrong checksums
}

// amazonHints are S3's refusals that somebody can do something about. They are permanent.
var amazonHints = map[string]string{
	"AccessDenied":                       "may the key list, read and write the bucket?",
	"AuthorizationHeaderMalformed":       "is the region right?",
	"EntityTooLarge":                     "raise s3.part_size",
	"Forbidden":                          "may the key list, read and write the bucket?",
	"ExpiredToken":                       "renew the credentials",
	"InvalidAccessKeyId":                 "check access_key",
	"IllegalLocationConstraintException": "is the region right?",
	"NoSuchBucket":                       "make the bucket, or correct s3.bucket",
	"PermanentRedirect":                  "is the region right?",
	"QuotaExceeded":                      "the bucket is full",
	"RequestTimeTooSkewed":               "set this machine's clock",
	"SignatureDoesNotMatch":              "check secret_key",
	"XAdminUserNotFound":                 "check access_key", // versitygw's
	"TokenRefreshRequired":               "renew the credentials",
}

// amazonTransient are codes of S3 that pass although their status says otherwise, and some whose status may be lost on the way.
var amazonTransient = map[string]bool{
	"BadDigest": true, "ConditionalRequestConflict": true, "IncompleteBody": true, "InternalError": true, "OperationAborted": true,
	"RequestTimeout": true, "ServiceUnavailable": true, "SlowDown": true, "Throttling": true, "ThrottlingException": true, "TooManyRequests": true,
}

func (f *Fault) judgeAmazon(api smithy.APIError) {
	status := 0
	var response *smithyhttp.ResponseError
	if errors.As(f.Err, &response) {
		status = response.HTTPStatusCode()
		f.Wait = retryAfter(response.Response.Header)
	}
	code := api.ErrorCode()
	f.Hint = amazonHints[code]
	f.Permanent = !amazonTransient[code] && status < http.StatusInternalServerError && status != http.StatusTooManyRequests
	switch {
	case code == "PreconditionFailed" || status == http.StatusPreconditionFailed:
		f.Err = fmt.Errorf("%w: %w", ErrExists, f.Err)
	case code == "NoSuchUpload":
		f.Err = fmt.Errorf("%w: %w", errNoUpload, f.Err)
	case code == "NotImplemented":
		f.Permanent, f.Hint = true, "the server does not know a header of this call; with `checksums: auto` none are sent that have to do with checksums"
	case code == "BadDigest":
		f.Err = fmt.Errorf("%w: %w", ErrChecksum, f.Err)
	case status == http.StatusNotFound && code != "XAdminUserNotFound":
		f.Permanent, f.Err = true, fmt.Errorf("%w: %w", ErrNotFound, f.Err)
	}
}

// googleHints are reasons in which Google's APIs refuse for good.
var googleHints = map[string]string{
	"accessDenied":             "does the service account have the role for it?",
	"accessNotConfigured":      "enable the API in the project",
	"accountDisabled":          "the billing account is disabled",
	"billingNotEnabled":        "enable billing for the project",
	"billingTierLimitExceeded": "raise the project's billing tier",
	"forbidden":                "does the service account have the role for it?",
	"quotaExceeded":            "a quota of the project is used up: wait for the next day, or ask for more",
	"responseTooLarge":         "export in smaller chunks",
	"userProjectMissing":       "the bucket wants the reader to pay",
}

// googleTransient are reasons that pass, whatever the status.
var googleTransient = map[string]bool{
	"backendError": true, "internalError": true, "jobBackendError": true, "jobInternalError": true, "jobRateLimitExceeded": true,
	"rateLimitExceeded": true, "tableUnavailable": true, "userRateLimitExceeded": true,
}

func (f *Fault) judgeGoogle(api *googleapi.Error) {
	f.Wait = retryAfter(api.Header)
	reason := ""
	if len(api.Errors) > 0 {
		reason = api.Errors[0].Reason
	}
	switch {
	case googleTransient[reason]:
		f.Hint = "" // it passes
	case googleHints[reason] != "":
		f.Permanent, f.Hint = true, googleHints[reason]
	case api.Code == http.StatusUnauthorized:
		f.Permanent, f.Hint = true, "Google needs credentials: GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`"
	case api.Code == http.StatusForbidden:
		f.Permanent, f.Hint = true, "does the service account have the role for it?"
	default:
		f.Permanent = api.Code < http.StatusInternalServerError && api.Code != http.StatusTooManyRequests && api.Code != http.StatusRequestTimeout
	}
	if api.Code == http.StatusNotFound {
		f.Err = fmt.Errorf("%w: %w", ErrNotFound, f.Err)
	}
}

// retryAfter reads the header of that name, in seconds or as a date; 0 if there is none.
func retryAfter(h http.Header) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, err := strconv.Atoi(v); err == nil {
		return max(0, time.Duration(seconds)*time.Second)
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}
