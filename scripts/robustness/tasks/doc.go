// Command tasks makes a real Airflow fail over again and again while DAGs run, and asks afterwards what became of every task.
// Scheduler, RabbitMQ, Celery worker, Postgres and three duoflowd are the real ones. The witness is a journal that the tasks' bodies keep,
// which Airflow knows nothing of: no try may have run twice, no task beside itself, no run may be lost or doubled, all has to
// end, and what Airflow calls a success has its body there. What Airflow itself does not promise, that a task whose result was lost is tried again,
// is counted. What a run has seen is kept in a folder, and `tasks check` judges it again.
package main
