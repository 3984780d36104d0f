// Package objects keeps the pipeline's files in S3 and brings them there from Google Cloud Storage.
//
// Three rules carry it. A key is made of what is in the object, so that the same work done twice, or by two nodes, ends at the
// same key with the same bytes. A put is conditional (If-None-Match: *), so that the second writer notices. And a reader
// trusts nothing but a manifest, which is written last: what no manifest names does not exist.
//
// A copy is a multipart upload in parts whose CRC32C S3 checks; the sum of the whole is put together from those of the parts
// and compared with the one that GCS publishes before the object comes into being. A copy that was cut off goes on with the
// part that is missing.
package objects
