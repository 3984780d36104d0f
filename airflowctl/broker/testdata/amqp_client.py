"""What a scheduler does to a broker, with the library that Celery uses for it.

    publish URL QUEUE    a message every 5 ms, and its number in a line; ends with 3 and the reason when one is refused
    count URL QUEUE      how many messages are in the queue
"""

import sys
import time

import amqp
from kombu import Connection


def publish(channel, queue):
    number = 0
    while True:
        number += 1
        channel.basic_publish(amqp.Message(f"message {number}"), routing_key=queue)
        print(number, flush=True)
        time.sleep(0.005)


def main():
    what, url, queue = sys.argv[1:]
    try:
        with Connection(url, connect_timeout=30) as connection:
            connection.connect()
            channel = connection.default_channel
            found = channel.queue_declare(queue, durable=True, auto_delete=False)
            if what == "publish":
                publish(channel, queue)
            else:
                print(found.message_count)
    except Exception as err:
        print(f"refused: {type(err).__name__}: {err}", flush=True)
        sys.exit(3)


main()
