// Options with which PostGraphile shows the extension's own views and functions
// too, so that users list and manage their keys by GraphQL. The tables behind
// the views are left out: nobody may read them, and the names would collide.
import graphile from 'graphile-utils';

const tables = [
  'apikey_event', 'apikey_key', 'apikey_limit', 'apikey_member', 'apikey_organization', 'apikey_project',
  'apikey_server',
];

export const extension = {
  includeExtensionResources: true,
  appendPlugins: [
    graphile.makeJSONPgSmartTagsPlugin({
      version: 1,
      config: { class: Object.fromEntries(tables.map((name) => [name, { tags: { omit: true } }])) },
    }),
  ],
};
