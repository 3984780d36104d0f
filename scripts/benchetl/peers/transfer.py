"""transfer.py GCS S3 BUCKET PREFIX TARGET: copies the objects gs://BUCKET/PREFIX* to s3://TARGET with gcsfs and s3fs, one after the
other, 16 MiB at a time. Keys of S3 are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. The last line says how long it took."""

import json
import os
import shutil
import sys
import time

# Or gcsfs asks Google for the bucket's type, a minute for each try.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
PART = 16 << 20


def main():
    import gcsfs
    import s3fs

    endpoint, s3, bucket, prefix, target = sys.argv[1:]
    source = gcsfs.GCSFileSystem(token="anon", endpoint_url=endpoint)
    sink = s3fs.S3FileSystem(endpoint_url=s3, config_kwargs={"s3": {"addressing_style": "path"}})
    began, size = time.perf_counter(), 0
    for name in source.glob(f"{bucket}/{prefix}*"):
        with source.open(name, "rb", block_size=PART) as r, sink.open(f"{target}/{name.split('/')[-1]}", "wb", block_size=PART) as w:
            shutil.copyfileobj(r, w, PART)
            size += r.size
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "bytes": size, "version": f"gcsfs {gcsfs.__version__}, s3fs {s3fs.__version__}"}))


main()
