import { Aws, Duration, Fn } from 'aws-cdk-lib';
import * as cloudwatch from 'aws-cdk-lib/aws-cloudwatch';
import { Construct } from 'constructs';

import type { Api } from './api.js';
import type { DeployedFunction, Functions } from './functions.js';
import type { Parameters } from './parameters.js';
import type { QueuePair, Queues } from './queues.js';
import type { State } from './state.js';

export interface AlarmsProps {
  readonly parameters: Parameters;
  readonly state: State;
  readonly queues: Queues;
  readonly functions: Functions;
  readonly api: Api;
}

interface Alarm {
  readonly id: string;
  readonly name: string;
  readonly description: string;
  readonly metric: cloudwatch.IMetric;
  readonly threshold: number;
  /** How many periods are looked at, and how many of them must be bad; 3 and 2 if absent. */
  readonly periods?: readonly [number, number];
  /** Too little is bad, and so is nothing. */
  readonly tooLittle?: boolean;
}

/** What somebody has to be told. docs/operations.md says of each alarm what to do. */
export class Alarms extends Construct {
  private readonly action: cloudwatch.IAlarmAction;

  constructor(
    scope: Construct,
    private readonly props: AlarmsProps,
  ) {
    super(scope, 'alarms');
    const { parameters, queues, functions } = props;
    const topic = Fn.conditionIf(
      parameters.hasAlarmTopic.logicalId,
      parameters.alarmTopicArn.valueAsString,
      Aws.NO_VALUE,
    );
    this.action = { bind: () => ({ alarmActionArn: topic.toString() }) };
    for (const pair of queues.all) {
      this.ofQueue(pair);
    }
    for (const row of functions.all) {
      this.ofFunction(row);
    }
    this.ofTable('Read');
    this.ofTable('Write');
    this.ofTheRest();
  }

  private ofQueue({ id, logicalName, queue, deadLetters, longestWait }: QueuePair): void {
    const minute = { period: Duration.minutes(1), statistic: cloudwatch.Stats.MAXIMUM };
    this.add({
      id: `${id}AgeAlarm`,
      name: `${logicalName}-age`,
      description: `The oldest message on ${logicalName} has waited for ${String(longestWait / 60)} minutes.`,
      metric: queue.metricApproximateAgeOfOldestMessage(minute),
      threshold: longestWait,
      periods: [5, 5],
    });
    this.add({
      id: `${id}DeadLettersAlarm`,
      name: `${logicalName}-dead-letters`,
      description: `There are dead letters of ${logicalName}.`,
      metric: deadLetters.metricApproximateNumberOfMessagesVisible(minute),
      threshold: 1,
      periods: [1, 1],
    });
  }

  private ofFunction({ id, name, timeout, function: made }: DeployedFunction): void {
    this.add({
      id: `${id}ErrorsAlarm`,
      name: `${name}-errors`,
      description: `Invocations of ${name} fail.`,
      metric: made.metricErrors(),
      threshold: 1,
    });
    this.add({
      id: `${id}ThrottlesAlarm`,
      name: `${name}-throttles`,
      description: `Invocations of ${name} are refused for want of concurrency.`,
      metric: made.metricThrottles(),
      threshold: 1,
    });
    this.add({
      id: `${id}DurationAlarm`,
      name: `${name}-duration`,
      description: `Invocations of ${name} take over nine tenths of their ${String(timeout)} seconds.`,
      metric: made.metricDuration({ statistic: cloudwatch.Stats.MAXIMUM }),
      threshold: timeout * 900,
    });
  }

  private ofTable(kind: 'Read' | 'Write'): void {
    this.add({
      id: `Table${kind}ThrottlesAlarm`,
      name: `table-${kind.toLowerCase()}-throttles`,
      description:
        kind === 'Read' ? 'Reads of the table are throttled.' : 'Writes to the table are throttled.',
      metric: new cloudwatch.Metric({
        namespace: 'AWS/DynamoDB',
        metricName: `${kind}ThrottleEvents`,
        dimensionsMap: { TableName: this.props.state.table.tableName },
        statistic: cloudwatch.Stats.SUM,
      }),
      threshold: 1,
    });
  }

  private ofTheRest(): void {
    this.add({
      id: 'ApiErrorsAlarm',
      name: 'api-5xx',
      description: 'The API answers with server errors.',
      metric: this.props.api.api.metricServerError({ statistic: cloudwatch.Stats.SUM }),
      threshold: 5,
    });
    this.add({
      id: 'ScheduleAlarm',
      name: 'schedule',
      description: 'The sweep has not run for five minutes.',
      metric: this.props.functions.get('sync-deployments').function.metricInvocations(),
      threshold: 1,
      periods: [1, 1],
      tooLittle: true,
    });
  }

  private add({ id, name, description, metric, threshold, periods, tooLittle }: Alarm): void {
    const [evaluationPeriods, datapointsToAlarm] = periods ?? [3, 2];
    const alarm = new cloudwatch.Alarm(this, id, {
      alarmName: `${Aws.STACK_NAME}-${name}`,
      alarmDescription: description,
      metric,
      threshold,
      evaluationPeriods,
      datapointsToAlarm,
      comparisonOperator:
        tooLittle === true
          ? cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD
          : cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
      treatMissingData:
        tooLittle === true
          ? cloudwatch.TreatMissingData.BREACHING
          : cloudwatch.TreatMissingData.NOT_BREACHING,
    });
    alarm.addAlarmAction(this.action);
    alarm.addOkAction(this.action);
  }
}
