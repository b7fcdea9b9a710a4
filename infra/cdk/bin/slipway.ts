import { App, Validations } from 'aws-cdk-lib';
import { AwsSolutionsChecks } from 'cdk-nag';

import { SlipwayStack } from '../lib/slipway-stack.js';

const app = new App();
const name: unknown = app.node.tryGetContext('stack');
const artifacts: unknown = app.node.tryGetContext('artifacts');

new SlipwayStack(app, typeof name === 'string' ? name : 'slipway-dev', {
  artifacts: typeof artifacts === 'string' ? artifacts : '../../target/lambda',
});
Validations.of(app).addPlugins(new AwsSolutionsChecks(app, { writeSuppressionsToCloudFormation: true }));
Validations.of(app).acknowledge({
  id: 'CloudFormation-Validate::W1030',
  reason: 'The rule looks at the empty defaults of parameters, which the conditions keep out of use.',
});
